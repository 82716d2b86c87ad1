"""vmferry: virtual machines in and out of a private cloud, through EC2's VM Import/Export API.

The map
=======
Files at the top are the nouns everybody shares: ``blob``, ``folder``, ``extent``, ``ranges``, ``disk``, ``digest``,
``receipt``, ``import_manifest``, ``machine``; beside them ``errors``, ``registry``, ``units``, ``limits``, ``quotas``,
``config``, ``keep``, ``directory``, ``private_file``, ``own_tags``; above the rooms that they need ``snapshot_blocks``,
``gateway``, which every front end stands behind, ``work``, which a worker and the server have in common, and
``data_directory``, which commands beside a server look into. Folders are rooms:

==============  =========================================================================
``wrappers``    a packed file around a disk or an appliance: gzip, xz, zstd, bzip2, zip
``formats``     a file that holds one disk: vmdk, vhdx, qcow2, vdi, vhd, raw
``appliances``  a whole VM: ova, xva; or its description in a folder: ovf, vmx, vbox, hyperv, libvirt
``stores``      where blobs live: local, s3, memory
``convert``     Disk → DiskWriter: plan, copy, progress
``guest``       what is inside a disk: partitions, what boots, which system and what it needs
``catalog``     the durable record: images, snapshots, tasks, tags, accounts
``tasks``       the hallway: durable workflows, one file or folder per kind of task
``aws``         what AWS front ends share: signatures, the service model, the query and REST protocols, XML, policies
``ec2``         the EC2 Query API: its front end, errors, one file per action; STS
``ebs``         the EBS direct API: its front end, errors, one file per operation
``iam``         IAM as far as the role of VM Import/Export needs it
``runtime``     what runs beside the requests: the dispatcher, a worker, housekeeping, metrics
``embedded``    the servers that ``vmferry serve`` runs as child processes: SeaweedFS, Temporal, workers
``cli``         one file per command; ``cli/classic``: the ``ec2-…`` commands of old
``app``         the composition root: config → catalog, stores, tasks, gateway
==============  =========================================================================

The straight way of an OVA in S3 that becomes an AMI
====================================================
1. ``ec2/actions/import_image.py``: the request is checked and recorded; the answer goes out at once.
2. ``tasks/import_image``: *validating* opens the key (``stores``), the appliance (``appliances``) and its disks
   (``formats``), and looks for what boots (``guest``), all by ranges and before a byte is copied.
3. *converting*: ``convert`` copies slices of each disk into a qcow2 that lies ready; any worker does any slice.
4. *updating*: tables are written, the snapshots appear whole.
5. *preparing ami*: ``catalog.images`` gets the AMI.

Where new things go
===================
A new member of a family is a new module in its folder and its name in the list of that folder's ``__init__`` (see
``registry``): ``FORMATS``, ``PACKAGES``, ``STORES``, ``ACTIONS``, ``OPERATIONS``, ``TASKS``. Modules that start with an
underscore belong to their room and are no members. Who may import whom stands in ``pyproject.toml`` and is checked with
the tests.
"""

__version__ = "0.1.0"
