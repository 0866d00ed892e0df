"""Serve the studio."""

import argparse
import os

from csegsynth_kit.show.studio_server import server


def run(options: argparse.Namespace) -> None:
    """Run ``csegsynth studio``, until it is interrupted."""
    command, environment = server(
        options.run,
        cohort=options.cohort,
        port=options.port,
        browser=options.browser,
        out=options.out,
    )
    place = f"http://localhost:{options.port}/"
    print(f"The studio is at {place} in a few seconds; Ctrl+C ends it.", flush=True)
    # This process becomes the server, so that whatever ends it ends the server.
    os.execve(command[0], command, environment)
