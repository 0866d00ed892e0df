"""Print what becomes of every broken input, as a Markdown table.

Run from the root of the repository: ``python -m benchmarks.bad_input_table``.
"""

import logging
import sys
import tempfile
from pathlib import Path

from tests.data.bad_inputs import CASES, outcome

logging.disable(logging.ERROR)


def main() -> None:
    lines = ["| input | what happens | message |", "|---|---|---|"]
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            result = outcome(case, Path(folder))
            message = result.message.replace(f"{folder}/", "").replace("|", "\\|")
        happens = type(result.error).__name__ if result.error else "participant left out"
        lines.append(f"| {name} | {happens} | {message} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
