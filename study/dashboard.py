"""python -m study.dashboard NAME: the Optuna dashboard on a study, for reading only."""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from spinlock_dist.command import command_parser
from spinlock_dist.errors import ConfigError, SpinlockError, run_command

HOST = "127.0.0.1"
PORT = 8080

EXAMPLES = """examples:
  python -m study.dashboard operators               history, curves, importances, constraints; also while it runs
  python -m study.dashboard operators --port 8081
"""


def main(argv: list[str] | None = None) -> int:
    """Parse, then serve until interrupted."""
    parser = command_parser(
        "study.dashboard", "Show the trials of a study in the Optuna dashboard, on this machine alone.", EXAMPLES
    )
    parser.add_argument("name", help="study")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="where studies are kept")
    parser.add_argument("--arm", metavar="STRATEGY", help="of a tournament: whose trials")
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help=f"port (default: {PORT})")
    args = parser.parse_args(argv)
    from results.records.study_folder import open_study
    from study.phases.tournament import tournament_arms

    folder = open_study(args.runs, args.name)
    if (known := folder.read_description())["config"].get("tournament"):
        folder = folder.arm(_arm(args.arm, tournament_arms(known["space"])))
    elif args.arm is not None:
        raise ConfigError(f"--arm: study '{folder.name}' is no tournament; leave it out")
    if folder.elsewhere.exists():
        raise SpinlockError(
            f"study '{folder.name}' keeps its trials in a database; {folder.elsewhere} says where: "
            "optuna-dashboard URL shows them, and can change them"
        )
    if not folder.journal.exists():
        raise SpinlockError(f"study '{folder.name}' has no trials yet: its search begins after the baseline")
    if find_spec("optuna_dashboard") is None:
        raise SpinlockError("the Optuna dashboard is not installed: pip install optuna-dashboard")
    serve(folder.journal, args.port)
    return 0


def _arm(given: str | None, arms: list[str]) -> str:
    """The arm of a tournament to show. Raises `ConfigError` naming all arms if it is none of them."""
    if given not in arms:
        raise ConfigError(f"a tournament has trials of each strategy: choose one with --arm: {', '.join(arms)}")
    return given


def serve(journal: Path, port: int) -> None:
    """Serve until interrupted, on the loopback interface. Raises `SpinlockError` if the port cannot be used."""
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    from optuna.storages import JournalStorage
    from optuna_dashboard import wsgi

    from results.records.optuna_trials import ReadOnlyBackend

    class Silent(WSGIRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Print no line for every request."""

    try:
        server = make_server(HOST, port, wsgi(JournalStorage(ReadOnlyBackend(str(journal)))), handler_class=Silent)
    except (OSError, OverflowError) as error:
        raise SpinlockError(f"port {port} cannot be used: {error}; name another with --port") from None
    print(f"Optuna dashboard: http://{HOST}:{server.server_port} (Ctrl-C ends it; the study continues)", flush=True)
    with server, suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    run_command(main)
