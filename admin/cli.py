"""``nusagate``: the commands of the three rooms, joined into one.

Every failure is one clear sentence on standard error: exit status 2 where the command was typed wrongly, 1 where it
could not do its work, 130 where it was interrupted. Nothing is on standard output then.
"""

import sys
from collections.abc import Sequence

import rich_click as click

import billing.cli
import gateway.cli
from admin import commands
from gateway.db.pool import is_operational
from gateway.errors import NusagateError
from gateway.runtime.logging import configure_logging, describe

FAILED = 1
INTERRUPTED = 130


@click.group(epilog="Example: nusagate account create --email sari@example.com")
def nusagate() -> None:
    """Nusagate: an OpenAI-compatible API gateway that counts every token and stops at the limit."""


for command in (*commands.COMMANDS, *billing.cli.COMMANDS, *gateway.cli.COMMANDS):
    nusagate.add_command(command)


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit status."""
    try:
        status = nusagate.main(list(arguments), prog_name="nusagate", standalone_mode=False)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "nusagate"
        return _fail(f"{error.format_message()} See: {where} --help", error.exit_code)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except click.Abort:
        return _fail("Interrupted.", INTERRUPTED)
    except NusagateError as error:
        return _fail(error.message, FAILED)
    except Exception as error:
        return _fail(_explain(error), FAILED)
    return status if isinstance(status, int) else 0


def main() -> None:
    """Run what was typed; the console script. What is logged meanwhile is no part of the answer."""
    configure_logging(json_lines=False)
    sys.exit(run(sys.argv[1:]))


def _fail(sentence: str, status: int) -> int:
    click.secho(f"Error: {sentence}", err=True, fg="red")
    return status


def _explain(error: Exception) -> str:
    if is_operational(error):
        return f"Postgres did not answer as it should: {str(error) or type(error).__name__}"
    found = describe(error)
    return f"Something went wrong inside Nusagate: {found['error_type']} at {found['detail']}"


if __name__ == "__main__":
    main()
