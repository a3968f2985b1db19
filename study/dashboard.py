"""python -m study.dashboard NAME: the Optuna dashboard on a study, for reading only."""

from __future__ import annotations

import argparse
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from spinlock_dist.command import command_parser, tool
from spinlock_dist.errors import ConfigError, SpinlockError, run_command
from spinlock_dist.inputs import require_file

HOST = "127.0.0.1"
PORT = 8080
OWN_NAMES = ("127.0.0.1", "localhost", "::1")
IDLE_SECONDS = 60
"""After which a connection that sends nothing is closed."""

EXAMPLES = """examples:
  python -m study.dashboard operators               history, curves, importances, constraints; also while it runs
  python -m study.dashboard operators --port 8081
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = command_parser(
        "study.dashboard", "Show the trials of a study in the Optuna dashboard, on this machine alone.", EXAMPLES
    )
    parser.add_argument("name", help="study")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="where studies are kept")
    parser.add_argument("--arm", metavar="STRATEGY", help="of a tournament: whose trials")
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help=f"port (default: {PORT})")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse, then serve until interrupted."""
    args = make_parser().parse_args(argv)
    from results.records.stage import tournament_arms
    from results.records.study_folder import open_study
    from results.records.study_record import read_study

    folder = open_study(args.runs, args.name)
    study = read_study(folder, details=False)
    if study.description["config"].get("tournament"):
        folder = folder.arm(_arm(args.arm, tournament_arms(study.description["space"])))
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
        raise SpinlockError(f"the Optuna dashboard is not installed: {tool('pip')} install optuna-dashboard")
    from study.dashboard_view import dashboard_application

    require_file(folder.journal, SpinlockError)
    serve(dashboard_application(folder.journal, study), args.port)
    return 0


def _arm(given: str | None, arms: list[str]) -> str:
    """The arm of a tournament to show. Raises `ConfigError` naming all arms if it is none of them."""
    if given not in arms:
        raise ConfigError(f"a tournament has trials of each strategy: choose one with --arm: {', '.join(arms)}")
    return given


def serve(app: Any, port: int) -> None:
    """Serve a WSGI application until interrupted, on the loopback interface, every request in a thread of its own.

    Raises `SpinlockError` if the port cannot be used.
    """
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

    class Threaded(ThreadingMixIn, WSGIServer):
        daemon_threads = True  # a connection that is idle neither blocks others nor the end

    class Silent(WSGIRequestHandler):
        timeout = IDLE_SECONDS

        def log_message(self, format: str, *args: object) -> None:
            """Print no line for every request."""

    try:
        server = make_server(HOST, port, own_pages_only(app), server_class=Threaded, handler_class=Silent)
    except (OSError, OverflowError) as error:
        raise SpinlockError(f"port {port} cannot be used: {error}; name another with --port") from None
    print(f"Optuna dashboard: http://{HOST}:{server.server_port} (Ctrl-C ends it; the study continues)", flush=True)
    with server, suppress(KeyboardInterrupt):
        server.serve_forever()


def own_pages_only(app: Any) -> Any:
    """A WSGI application that answers to names of this machine alone.

    A page elsewhere may give its own name the address of this machine (DNS rebinding): the browser then takes what is
    served here for that page's, but tells the name in `Host`, and in `Origin` where a request comes from.
    """

    def guarded(environ: dict[str, Any], start_response: Any) -> Any:
        origin = environ.get("HTTP_ORIGIN")
        hosts = [f"//{environ.get('HTTP_HOST', '')}", *([origin] if origin is not None else [])]
        if all(_hostname(host) in OWN_NAMES for host in hosts):
            return app(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain")])
        return [f"this page answers to http://{HOST} alone\n".encode()]

    return guarded


def _hostname(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


if __name__ == "__main__":
    run_command(main)
