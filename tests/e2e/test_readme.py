"""The README's transcript and snippets, run as written against the running stack, do what it says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from local.testing import StackProcess
from tests.e2e.test_spine import Stripe

pytestmark = pytest.mark.stack

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def transcript() -> tuple[str, list[str]]:
    """(the commands as one script, the lines they should print)."""
    block = next(block for block in re.findall(r"```sh\n(.*?)```", README, re.S) if block.startswith("$ "))
    commands, printed = [], []
    for line in block.splitlines():
        if line.startswith("$ "):
            commands.append(line[2:])
        elif line.strip():
            printed.append(line)
    return "\n".join(commands), printed


def test_the_transcript_is_real(stack: StackProcess, tmp_path: Path) -> None:
    script, printed = transcript()
    assert len(printed) == 5
    script = script.replace("127.0.0.1:8787", f"127.0.0.1:{stack.port}").replace("/tmp/", f"{tmp_path}/")
    script = script.replace("127.0.0.1:8788", f"127.0.0.1:{stack.port + 1}")
    # Stripe's lag is on in this suite, and its time may have been moved: where the transcript waits, the stack's clock
    # is moved until Stripe shows something, and its seconds are the stack's at that moment.
    clock = f"curl -s {stack.base_url}/_local/clock"
    meter = Stripe(stack).meters["ai_credits"]
    began = stack.seconds() // 60 * 60
    shown = f'"/v1/billing/meters/{meter}/event_summaries?customer=$customer&start_time={began}&end_time={began + 600}"'
    wait = f"""for _ in $(seq 60); do
  {clock} -X POST -d '{{"advance_seconds": 30}}' > /dev/null
  curl -s -X POST {stack.base_url}/_local/run/seal > /dev/null
  sleep 0.5
  if stripe {shown} | grep -q aggregated_value; then break; fi
done"""
    seconds = f"""{clock} | pick 'int(__import__("datetime").datetime.fromisoformat(answer["now"]).timestamp())'"""
    script, waits = re.subn(r"sleep 20.*", lambda _: wait, script)
    assert waits == 1
    assert "date +%s" in script
    script = script.replace("date +%s", seconds)
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == printed


# ---- the snippets of "In your app"

DAY = 86_400
PYTHON = """
import sys
{snippet}

def call_the_model(prompt):
    if prompt == "broken":
        raise ConnectionError("the model is down")
    return "an answer", int(prompt)

try:
    print(answer(*sys.argv[1:]))
except Exception as error:
    print(type(error).__name__, error)
"""
JAVASCRIPT = """
{snippet}

async function callTheModel(prompt) {{
  if (prompt === "broken") throw new Error("the model is down");
  return {{ text: "an answer", tokens: Number(prompt) }};
}}

console.log(await answer(...process.argv.slice(2)).catch((error) => `${{error.name}} ${{error.message}}`));
"""
LANGUAGES = [
    "python",
    pytest.param("js", marks=pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")),
]


def snippet(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", README, re.S)
    return str(found)


class App:
    """A user's app: the README's snippet around a model that uses as many tokens as its prompt says."""

    def __init__(self, stack: StackProcess, language: str, folder: Path) -> None:
        source = snippet(language).replace("127.0.0.1:8787", f"127.0.0.1:{stack.port}")
        program, frame, suffix = {
            "python": (sys.executable, PYTHON, "py"),
            "js": (str(shutil.which("node")), JAVASCRIPT, "mjs"),
        }[language]
        file = folder / f"app.{suffix}"
        file.write_text(frame.format(snippet=source), encoding="utf-8")
        self._command = [program, str(file)]

    def answer(self, user: str, prompt: str) -> str:
        ran = subprocess.run([*self._command, user, prompt], capture_output=True, text=True, check=False, timeout=60)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_snippet_reserves_commits_releases_and_passes_on_a_refusal(
    stack: StackProcess, language: str, tmp_path: Path
) -> None:
    app, user = App(stack, language, tmp_path), f"readme-{language}-{uuid.uuid4().hex[:8]}"
    left = DAY - stack.seconds() % DAY
    if left < 60:  # a new day's units would be counted
        stack.advance(left)
    assert app.answer(user, "2500") == "an answer"
    assert _counted(stack, user) == ("2.5", "0")
    assert "the model is down" in app.answer(user, "broken")
    assert _counted(stack, user) == ("2.5", "0"), "a failed call gives its units back"
    assert app.answer(user, "4000") == "an answer"
    assert app.answer(user, "1000") == "You've used 6.5 out of 10 AI credits today; this needs 4 more."
    assert _counted(stack, user) == ("6.5", "0")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_commit_that_fails_is_an_error_and_gives_nothing_back(
    stack: StackProcess, language: str, tmp_path: Path
) -> None:
    """The call ran: its units stay set aside until a commit is sent again or the hold expires."""
    app, user = App(stack, language, tmp_path), f"readme-{language}-{uuid.uuid4().hex[:8]}"
    assert "422" in app.answer(user, "-1")
    assert _counted(stack, user) == ("0", "4")


@pytest.mark.parametrize("language", ["python", "js"])
def test_a_snippet_is_about_fifteen_lines(language: str) -> None:
    assert sum(1 for line in snippet(language).splitlines() if line.strip()) <= 18


def _counted(stack: StackProcess, account: str) -> tuple[str, str]:
    """(used, held) units of the free plan's daily limit."""
    answer = stack.api("GET", f"/v1/accounts/{account}/usage").raise_for_status().json()
    (daily,) = (limit for limit in answer["limits"] if limit["id"] == "daily")
    return str(daily["used"]), str(daily["held"])
