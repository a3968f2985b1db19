"""Prometheus and Grafana for Ray's Metrics page, with the panels of studies on top: `python3 deploy/metrics.py`.

Both have to be installed here (Debian: prometheus; Grafana has packages of its own). They are started with the
configuration that a running Ray has written for them, listen on loopback, keep what they gather in Ray's session, and
end with Ctrl-C.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

STUDIES = Path(__file__).resolve().parent / "grafana.json"
FIRST_ID = 900_000
"""Numbers of panels from here on are ours: Ray's are smaller."""
GRAFANA_HOMES = ("/usr/share/grafana", "/usr/local/share/grafana")


def main() -> int:
    """Add the panels, start both and wait. Returns 2 if something is not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--session", type=Path, default=Path("/tmp/ray/session_latest"), help="folder of a running Ray")
    session = parser.parse_args().session.resolve()
    metrics = session / "metrics"
    dashboard = metrics / "grafana" / "dashboards" / "default_grafana_dashboard.json"
    if not dashboard.exists():
        return refuse(f"{dashboard}: not there; start a study first, or name its session with --session")
    dashboard.write_text(json.dumps(with_studies(json.loads(dashboard.read_text()), json.loads(STUDIES.read_text()))))
    missing = [name for name in ("prometheus", "grafana-server") if shutil.which(name) is None]
    if missing:
        return refuse(f"not installed, or not on the PATH: {' and '.join(missing)}; the panels are in {dashboard}")
    commands = {
        "prometheus": [
            f"--config.file={metrics}/prometheus/prometheus.yml",
            f"--storage.tsdb.path={metrics}/prometheus/data",
            "--web.listen-address=127.0.0.1:9090",
        ],
        "grafana-server": [f"--config={metrics}/grafana/grafana.ini", f"--homepath={grafana_home()}"],
    }
    # Ray's configuration lets everybody look at Grafana who reaches it.
    environment = {**os.environ, "GF_SERVER_HTTP_ADDR": "127.0.0.1", "GF_PATHS_DATA": f"{metrics}/grafana/data"}
    running = [subprocess.Popen([name, *options], env=environment) for name, options in commands.items()]
    print("the Metrics page of Ray's dashboard now has panels; Ctrl-C ends them", flush=True)
    try:
        return max(process.wait() for process in running)
    except KeyboardInterrupt:
        return 0
    finally:
        for process in running:
            process.terminate()


def with_studies(dashboard: dict[str, Any], studies: dict[str, Any]) -> dict[str, Any]:
    """Ray's dashboard with the panels of studies above its own; one that has them already gets them anew."""
    merged = copy.deepcopy(dashboard)
    own = copy.deepcopy(studies["panels"])
    height = 1 + max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in own)
    kept = [panel for panel in merged["panels"] if panel["id"] < FIRST_ID]
    down = height - min(panel["gridPos"]["y"] for panel in kept)
    for panel in (each for outer in kept for each in (outer, *outer.get("panels", ()))):
        panel["gridPos"]["y"] += down
    for panel in own:
        panel["id"] += FIRST_ID
        panel["gridPos"]["y"] += 1
    place = {"x": 0, "y": 0, "w": 24, "h": 1}
    row = {"id": FIRST_ID, "type": "row", "title": studies["title"], "gridPos": place, "collapsed": False, "panels": []}
    merged["panels"] = [row, *own, *kept]
    variables = merged["templating"]["list"]
    known = {variable["name"] for variable in variables}
    variables += [variable for variable in studies["templating"]["list"] if variable["name"] not in known]
    return merged


def grafana_home() -> Path:
    """Where Grafana's pages are: beside its program, where that was unpacked, or where packages put them."""
    program = Path(shutil.which("grafana-server") or "").resolve()
    homes = [program.parent.parent, *map(Path, GRAFANA_HOMES)]
    return next((home for home in homes if (home / "public").exists()), homes[-1])


def refuse(why: str) -> int:
    print(f"error: {why}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
