"""IAM as far as set-up scripts and Terraform call it for the role of VM Import/Export.

One file per noun (``_NOUNS``), which exports its operations; the front end is ``gateway``. What is kept here is what
imports and exports are judged by (``aws/service_role``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from vmferry.catalog import Catalog


@dataclass(frozen=True, slots=True)
class IamContext:
    """Who asks, and what an operation may use."""

    account_id: str
    catalog: Catalog


Handler = Callable[[IamContext, Mapping[str, Any]], dict[str, Any]]
"""From a request in the model's member names, checked, to an answer in them. Raises ``ApiError``, ``VmferryError``."""

_NOUNS = ("roles", "inline_policies", "managed_policies", "role_tags")


def load_operations() -> dict[str, Handler]:
    """IAM's name of an operation → what does it. Imports the room's modules."""
    operations: dict[str, Handler] = {}
    for noun in _NOUNS:
        operations.update(import_module(f"vmferry.iam.{noun}").OPERATIONS)
    return operations
