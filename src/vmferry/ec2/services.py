"""What an action may use. Made once, by the composition root; everything in it is thread-safe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vmferry.catalog import Catalog
from vmferry.catalog.import_tasks import ImportTask
from vmferry.catalog.places import Place
from vmferry.ec2.copy_counter import CopyCounter
from vmferry.quotas import Quotas
from vmferry.stores import Store


@dataclass(frozen=True, slots=True)
class Services:
    """The server behind the actions."""

    regions: tuple[str, ...]
    """The regions that exist, the default one first."""
    catalog: Catalog
    objects: Callable[[Place], Store]
    """The users' object store, with the rights of the account that asks."""
    s3_endpoint: str | None
    """Where that object store is reached; ``None`` is AWS itself."""
    images: Store
    """The disk images behind snapshots."""
    quotas: Quotas
    """How much may be asked."""
    wake: Callable[[], None]
    """To be called when a task was recorded or cancelled: the dispatcher looks at once."""
    preview: Callable[[ImportTask], Sequence[str]] = lambda _: ()
    """What an import that is only tried would find in its disks: see ``Previewer``. By default nothing is looked at."""
    copies: CopyCounter = field(default_factory=CopyCounter)
