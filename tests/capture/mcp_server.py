"""An MCP server as a program of its own: `python mcp_server.py TRANSPORT NAME LOG [PORT]`.

It writes a line into LOG when it starts and for each call. Runs with both versions of the SDK.
"""

import sys
from pathlib import Path
from typing import Any

import anyio
from mcp import types

try:
    from mcp.server.mcpserver import Context, MCPServer

    SECOND = True
except ImportError:
    from mcp.server.fastmcp import Context, FastMCP as MCPServer  # type: ignore[attr-defined, no-redef]  # noqa: I001  # the first version

    SECOND = False


def make(name: str, note: Any, **options: Any) -> Any:
    """The server. `note` is called with the name of each tool that is called."""
    app: Any = MCPServer(name, **options)

    def hints(**given: bool) -> Any:
        return types.ToolAnnotations.model_validate(given)

    @app.tool(annotations=hints(readOnlyHint=True))
    def price(item: str) -> dict[str, float]:
        """What something costs."""
        note("price")
        return {"cents": 1.5 * len(item)}

    @app.tool(annotations=hints(idempotentHint=True))
    def reserve(item: str) -> str:
        """Puts something aside."""
        note("reserve")
        return f"{name} keeps {item}"

    @app.tool()
    async def order(item: str, count: int, ctx: Context) -> str:
        """Buys something, in parts."""
        note("order")
        for part in range(count):
            await ctx.report_progress(part, count)
        return f"{count} {item}"

    @app.tool()
    async def wait(milliseconds: int) -> int:
        """Takes its time."""
        note(f"wait {milliseconds}")
        await anyio.sleep(milliseconds / 1000)
        return milliseconds

    @app.tool()
    def broken() -> str:
        """Never works."""
        note("broken")
        raise ValueError("out of order")

    @app.tool()
    async def ask_model(ctx: Context) -> str:
        """Asks the client's model."""
        note("ask_model")
        content = types.TextContent(type="text", text="which?")
        message = types.SamplingMessage(role="user", content=content)
        answer = await ctx.session.create_message(messages=[message], max_tokens=9)
        return str(getattr(answer.content, "text", answer))

    @app.resource("shop://hours")
    def hours() -> str:
        note("hours")
        return "9 to 5"

    @app.prompt()
    def greet(who: str) -> str:
        return f"Say hello to {who}."

    return app


def main() -> None:
    transport, name, log, *port = sys.argv[1:]

    def note(what: str) -> None:
        with Path(log).open("a") as file:
            file.write(f"{what}\n")

    note(f"started {name}")
    where = {"host": "127.0.0.1", "port": int(port[0])} if port else {}
    if SECOND:
        make(name, note, log_level="CRITICAL").run(transport, **where)
    else:
        make(name, note, log_level="CRITICAL", **where).run(transport)


if __name__ == "__main__":
    main()
