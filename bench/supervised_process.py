"""A supervisor with the settings of the environment: `python -m bench.supervised_process`."""

from __future__ import annotations

import os
import sys

from engine import logs
from engine.configuration.settings import Settings
from engine.processes.lifeline import hold_lifeline
from engine.processes.supervisor import Supervisor


def main() -> None:
    settings = Settings.from_environ(os.environ)
    logs.configure("supervisor", settings.log_level)
    hold_lifeline()
    sys.exit(Supervisor(settings).run())


if __name__ == "__main__":
    main()
