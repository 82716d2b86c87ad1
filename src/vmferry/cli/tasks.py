"""``vmferry tasks``: the import tasks of an endpoint."""

from __future__ import annotations

from pathlib import Path

import typer

from vmferry.cli._client import api_errors, open_clients
from vmferry.cli._output import print_json, print_table
from vmferry.config import default_data_dir


def list_tasks(
    data_dir: Path = typer.Option(None, metavar="FOLDER", help="The data directory of the server to speak to."),
    aws: bool = typer.Option(False, "--aws", help="Speak to AWS itself."),
    as_json: bool = typer.Option(False, "--json", help="The API's answer as JSON."),
) -> None:
    """List your import tasks: how far they are, or how they ended."""
    clients = open_clients(data_dir or default_data_dir(), aws=aws)
    with api_errors():
        pages = clients.ec2.get_paginator("describe_import_image_tasks").paginate()
        tasks = [task for page in pages for task in page["ImportImageTasks"]]
    if as_json:
        print_json({"ImportImageTasks": tasks})
        return
    rows = [
        (
            task["ImportTaskId"],
            task["Status"],
            f"{task['Progress']}%" if "Progress" in task else None,
            task.get("ImageId"),
            task.get("StatusMessage") or task.get("Description"),
        )
        for task in tasks
    ]
    print_table(
        ("task", "status", "progress", "AMI", "message"), rows, "No tasks yet: import a machine, `vmferry import`."
    )


COMMAND = list_tasks
