"""Create a virtual environment and install a requirements file into it: `python dev/install.py FOLDER FILE`.

If this fails, it prints one line that says what to do. It runs before anything is installed, so it only uses the standard
library.
"""

import importlib
import re
import subprocess
import sys
from pathlib import Path

NO_VENV = "this Python has no {}. On Debian or Ubuntu: sudo apt install python3-venv. Then run the same command again"
NO_NETWORK = "the package index cannot be reached. Check the network or the proxy, then run the same command again"
NETWORK_ERROR = re.compile("connection broken|timed out|temporary failure|failed to establish", re.IGNORECASE)


def main(folder: str, requirements: str) -> None:
    """Create or update the virtual environment. Raise SystemExit with one line that says what is missing."""
    for module in ("venv", "ensurepip"):  # on Debian, both are in a package that is not installed by default
        try:
            importlib.import_module(module)
        except ImportError:
            raise SystemExit(NO_VENV.format(f"{module} module")) from None
    print(f"Creating the virtual environment {folder} ...", flush=True)
    _run([sys.executable, "-m", "venv", folder])
    python = str(Path(folder, "bin", "python"))
    print("Downloading and installing packages ...", flush=True)
    # pip prints progress to stdout, warnings and errors to stderr. If pip fails, only the last line of stderr is shown.
    _run([python, "-m", "pip", "install", "--disable-pip-version-check", "-r", requirements])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        if NETWORK_ERROR.search(done.stderr):
            raise SystemExit(NO_NETWORK)
        last = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise SystemExit(f"{' '.join(command)} failed: {last}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        raise SystemExit("interrupted; run the same command again") from None
