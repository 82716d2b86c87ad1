"""The durable record: accounts, roles, images, snapshots, volumes, instances, import and export tasks, tags.

``open_catalog`` is the way in.

Everything is kept per region and account (roles and policies per account): an id of another one does not exist here,
unless an AMI or a snapshot is shared with the account.
What comes out are frozen facts, never rows. Thread-safe; the server and its workers share one database.
"""

from __future__ import annotations

from vmferry.catalog._database import Database
from vmferry.catalog.accounts import Accounts
from vmferry.catalog.conversion_tasks import ConversionTasks
from vmferry.catalog.export_tasks import ExportTasks
from vmferry.catalog.images import Images
from vmferry.catalog.import_tasks import ImportTasks
from vmferry.catalog.instances import Instances
from vmferry.catalog.permissions import Permissions
from vmferry.catalog.policies import Policies
from vmferry.catalog.roles import Roles
from vmferry.catalog.snapshot_uploads import SnapshotUploads
from vmferry.catalog.snapshots import Snapshots
from vmferry.catalog.tags import Tags
from vmferry.catalog.volumes import Volumes


class Catalog:
    """The tables of one database, by what they hold."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self.accounts = Accounts(self._database)
        self.conversion_tasks = ConversionTasks(self._database)
        self.export_tasks = ExportTasks(self._database)
        self.images = Images(self._database)
        self.import_tasks = ImportTasks(self._database)
        self.instances = Instances(self._database)
        self.permissions = Permissions(self._database)
        self.snapshot_uploads = SnapshotUploads(self._database)
        self.policies = Policies(self._database)
        self.roles = Roles(self._database)
        self.snapshots = Snapshots(self._database)
        self.tags = Tags(self._database)
        self.volumes = Volumes(self._database)

    def migrate(self) -> None:
        """Bring the schema to the newest revision."""
        self._database.migrate()

    def close(self) -> None:
        """Release the connections."""
        self._database.close()


def open_catalog(url: str) -> Catalog:
    """The catalog in the database at ``url`` (an SQLAlchemy URL). Connections are made when first needed."""
    return Catalog(url)
