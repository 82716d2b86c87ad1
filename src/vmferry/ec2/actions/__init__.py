"""The actions of the EC2 API that vmferry has. ``ACTIONS`` says which; the file is botocore's method name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from vmferry.catalog.places import Place
from vmferry.ec2.refusals import Refusals
from vmferry.ec2.services import Services
from vmferry.registry import Registry


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Who asks, where, and what an action may use."""

    account_id: str
    access_key_id: str
    region: str
    """One of ``services.regions``: the scope of the signature."""
    request_id: str
    host: str
    """The endpoint as the caller reached it, ``127.0.0.1:8773``: from the signed ``Host`` header."""
    services: Services

    @property
    def place(self) -> Place:
        """The namespace of everything that the caller can name."""
        return Place(self.region, self.account_id)


Handler = Callable[[RequestContext, Mapping[str, Any]], dict[str, Any]]
"""From a request in the model's member names, checked, to an answer in the model's member names.

Absent members are absent. An enum may hold any text: the handler decides (``choices``). Runs in a thread of a pool.
``None`` in the answer is left out, ``[]`` is written. Raises ``Ec2Error``, or any ``VmferryError``.
"""

Check = Callable[[RequestContext, Mapping[str, Any]], None]
"""What a DryRun checks: permissions, as a rule nothing else. Changes nothing; raises as a handler does."""


@dataclass(frozen=True, slots=True)
class Action:
    """One action: ``ACTION = Action("ImportImage", import_image)``.

    Every parameter that the model has for it is refused, idle, or looked at by ``run``; a test sees to it.
    """

    name: str
    run: Handler
    check: Check | None = None
    refuses: Refusals = field(default_factory=dict)
    """Parameters that cannot be honoured, and why: neither ``run`` nor ``check`` meets a request that gives one."""
    optional: Collection[str] = ()
    """Members that the model requires, and that clients of older versions leave out."""
    idle: Mapping[str, str] = field(default_factory=dict)
    """Parameters that are taken, and why there is nothing here that they could change. Named as ``refuses`` does."""


ACTIONS: Registry[Action] = Registry(
    "vmferry.ec2.actions",
    "ACTION",
    [
        "attach_volume",
        "cancel_conversion_task",
        "cancel_export_task",
        "cancel_import_task",
        "copy_image",
        "copy_snapshot",
        "create_image",
        "create_instance_export_task",
        "create_snapshot",
        "create_tags",
        "create_volume",
        "delete_snapshot",
        "delete_tags",
        "delete_volume",
        "deregister_image",
        "describe_account_attributes",
        "describe_availability_zones",
        "describe_conversion_tasks",
        "describe_export_image_tasks",
        "describe_export_tasks",
        "describe_image_attribute",
        "describe_images",
        "describe_import_image_tasks",
        "describe_import_snapshot_tasks",
        "describe_instance_attribute",
        "describe_instance_types",
        "describe_instances",
        "describe_key_pairs",
        "describe_regions",
        "describe_security_groups",
        "describe_snapshot_attribute",
        "describe_snapshots",
        "describe_subnets",
        "describe_tags",
        "describe_volumes",
        "describe_vpcs",
        "detach_volume",
        "export_image",
        "import_image",
        "import_instance",
        "import_snapshot",
        "import_volume",
        "modify_image_attribute",
        "modify_instance_attribute",
        "modify_snapshot_attribute",
        "register_image",
        "reset_image_attribute",
        "reset_snapshot_attribute",
        "run_instances",
        "start_instances",
        "stop_instances",
        "terminate_instances",
    ],
)
