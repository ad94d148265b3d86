"""Make the pictures of docs/report.md and docs/usage.md from small runs on synthetic data: `python scripts/pictures.py`.

terminal.svg is what the commands below print, report.png the top of the page that the last one writes. About a minute;
needs `pip install -e ".[plots,browser]"` and Chromium or Chrome.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from seqrec.cli import Parser, guarded
from seqrec.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
SMALL = "dataset.users=500 trainer.max_epochs=6"
COMMANDS = (
    f"python train.py {SMALL}",
    f"python train.py -m method=plain,markov,popularity noise=insert noise.ratio=0,.2,.4 {SMALL} | tail -n 10",
    "python scripts/report.py outputs/synthetic/insert-* --output report/",
)
WIDTH, HEIGHT = 1280, 1130


def chromium() -> str | None:
    """Return the path of an installed Chromium or Chrome."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def terminal(folder: Path) -> str:
    """Run the commands in a folder, where they find the scripts; returns what a terminal would show, as an SVG."""
    from rich.console import Console
    from rich.text import Text

    for name in ("train.py", "scripts"):
        (folder / name).symlink_to(ROOT / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}  # runs this small need no second core
    shown = ""
    for command in COMMANDS:
        shell = ["bash", "-o", "pipefail", "-c", command]
        done = subprocess.run(
            shell, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode:
            raise UserError(f"{command}\n{done.stdout}")
        shown += f"$ {command}\n{done.stdout}\n"
    console = Console(record=True, width=max(map(len, shown.splitlines())), file=io.StringIO())
    console.print(Text.from_ansi(shown.rstrip()))
    svg = console.export_svg(title="seqrec", unique_id="terminal")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # no fonts of other hosts


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "pictures", help="folder to write")
    output = parser.parse_args().output
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        raise UserError("screenshots need playwright: pip install -e '.[browser]' in the folder of seqrec") from None
    program = chromium()
    if program is None:
        raise UserError("screenshots need Chromium or Chrome: install it, on Debian with apt-get install chromium")

    from seqrec.utils.files import write_atomically

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        write_atomically(output / "terminal.svg", terminal(Path(folder)).encode())
        page = playwright.chromium.launch(executable_path=program).new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto((Path(folder) / "report" / "index.html").as_uri())
        write_atomically(output / "report.png", page.screenshot())


if __name__ == "__main__":
    sys.exit(guarded(main))
