"""The EC2 Query API: one endpoint, one file per action.

=========================  =================================================================================
``gateway.py``             the front end: parsing by the model, the action, the answer; ``sts.py`` is STS's
``actions/``               one file per action, named as botocore names the method: ``import_image.py``
``services.py``            what an action may use: the catalog, the regions, …
``errors.py``              ``Ec2Error``, and vmferry's errors → EC2's codes
``resources.py``           kinds of resources: id prefix, type for tags, codes
``ids.py``                 ids: made and checked
``filters.py``             ``Filters``: names, wildcards, AND and OR
``paging.py``              ``MaxResults`` and ``NextToken``
``tag_specifications.py``  ``TagSpecifications`` and tags
``choices.py``             a value out of a list: enums, as the action sees them
``zones.py``               the availability zones of a region
=========================  =================================================================================

A new action is a new file in ``actions`` that exports ``ACTION``, and its name in ``ACTIONS``. It is a plain function
from ``RequestContext`` and the parsed request to a dict in the model's member names; the front end does the rest.
"""
