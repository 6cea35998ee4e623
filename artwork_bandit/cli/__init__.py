"""The commands. Exit codes: 0 done, 1 failed, 2 used wrongly; `--json` for machines.

Rooms are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from artwork_bandit import __version__, settings
from artwork_bandit.cli import data, judging, learning, running
from artwork_bandit.cli.options import PATH
from artwork_bandit.errors import ArtworkBanditError, InvalidInput


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="artwork-bandit")
@click.option("--config", type=PATH, help="TOML file with settings.")
@click.option("--database", "database_url", help="sqlite:///FILE or postgresql://USER@HOST/NAME")
@click.pass_context
def cli(ctx: click.Context, config: Path | None, database_url: str | None) -> None:
    """Contextual-bandit selection of artworks and trailers."""
    ctx.obj = lambda **more: settings.load(
        overrides={"database_url": database_url, **more}, file=config
    )


for command in (
    running.demo, running.migrate, data.catalog, data.history, running.serve, running.worker,
    learning.train, learning.models, judging.evaluate, data.export, data.import_log,
    running.pause, running.resume, running.cells, running.spool, data.rollups,
    running.config,
):  # fmt: skip
    cli.add_command(command)


def main() -> None:
    """Run the command; our own errors become one line and exit code 1 or 2."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except ArtworkBanditError as error:
        click.echo(f"artwork-bandit: {error}", err=True)
        sys.exit(2 if isinstance(error, InvalidInput) else 1)
    except UnicodeEncodeError as error:
        if error.reason != "surrogates not allowed":
            raise
        click.echo("artwork-bandit: an argument is not UTF-8, and no database keeps it", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
