"""A coding agent in miniature: `python agent.py TASK`, in the folder of the code.

Nothing in here knows of isotrace. The model is that of the `openai` SDK, where OPENAI_BASE_URL says.
"""

import json
import subprocess
import sys
from pathlib import Path

from openai import OpenAI

MODEL = "gpt-5-mini"
SYSTEM = "You mend bugs in the current folder. Run the tests before and after. Answer in one sentence."
MAX_TURNS = 20


def run(command: str) -> str:
    """Runs a shell command and returns its exit code and output."""
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    return f"exit code {done.returncode}\n{done.stdout}{done.stderr}"


def search(pattern: str) -> str:
    """Returns the lines of the folder's files that match a pattern, as they come."""
    command = ["grep", "-rn", "--include=*.py", pattern, "."]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as grep:
        return "".join(line for number, line in enumerate(grep.stdout) if number < 100)


def read_file(path: str) -> str:
    """Returns what stands in a file."""
    return Path(path).read_text()


def apply_patch(patch: str) -> str:
    """Applies a unified diff."""
    done = subprocess.run(["git", "apply", "-"], input=patch, capture_output=True, text=True)
    return done.stderr or "applied"


def write_file(path: str, text: str) -> str:
    """Writes a file."""
    Path(path).write_text(text)
    return f"{path}: {len(text)} characters"


TOOLS = {tool.__name__: tool for tool in (run, search, read_file, apply_patch, write_file)}


def described(tool) -> dict:
    names = tool.__code__.co_varnames[: tool.__code__.co_argcount]
    properties = {name: {"type": "string"} for name in names}
    parameters = {"type": "object", "properties": properties, "required": list(names)}
    return {
        "type": "function",
        "function": {"name": tool.__name__, "description": tool.__doc__, "parameters": parameters},
    }


def mend(task: str) -> str:
    model = OpenAI()
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": task}]
    tools = [described(tool) for tool in TOOLS.values()]
    for _ in range(MAX_TURNS):
        answer = model.chat.completions.create(model=MODEL, messages=messages, tools=tools).choices[0].message
        if not answer.tool_calls:
            return answer.content
        messages.append(answer.model_dump(exclude_none=True))
        for call in answer.tool_calls:
            try:
                result = TOOLS[call.function.name](**json.loads(call.function.arguments))
            except Exception as error:
                result = f"{type(error).__name__}: {error}"
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    return "I gave up."


if __name__ == "__main__":
    print(mend(sys.argv[1]))
