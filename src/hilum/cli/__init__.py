"""The command line: parse, build a config, call one function, print. One file per verb.

Rooms are imported inside the verbs' functions, so that ``hilum --help`` answers at once.
"""

from hilum.cli.terminal import run


def main() -> None:
    """Entry point of the ``hilum`` command."""
    from hilum.cli.verbs import app

    run(app)
