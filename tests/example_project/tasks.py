"""The project's tasks: they know nothing of tenants or of the order."""

from pathlib import Path

from example_project.app import app


@app.task
def render(report: str, folder: str) -> str:
    """Write one report, and its name at the end of the list of what was written."""
    with Path(folder, "written").open("a") as written:
        written.write(f"{report}\n")
    return f"{report} is done"


@app.task
def tidy(folder: str) -> None:
    """A periodic task: it belongs to no tenant."""
    with Path(folder, "written").open("a") as written:
        written.write("tidy\n")
