"""An MCP server over a folder of notes: `python server.py FOLDER`."""

import sys
from pathlib import Path

from mcp.types import ToolAnnotations

try:
    from mcp.server.mcpserver import MCPServer
except ImportError:  # the first version of the SDK
    from mcp.server.fastmcp import FastMCP as MCPServer

FOLDER = Path(sys.argv[1])
READS = ToolAnnotations.model_validate({"readOnlyHint": True})

app = MCPServer("notes", log_level="ERROR")


@app.tool(annotations=READS)
def list_notes() -> list[str]:
    """The names of all notes."""
    return sorted(note.stem for note in FOLDER.glob("*.txt"))


@app.tool(annotations=READS)
def read_note(name: str) -> str:
    """What a note says."""
    return (FOLDER / f"{name}.txt").read_text()


@app.tool()
def append_to_note(name: str, text: str) -> str:
    """Adds a line to a note."""
    with (FOLDER / f"{name}.txt").open("a") as note:
        note.write(text + "\n")
    return f"added to {name}"


if __name__ == "__main__":
    app.run()
