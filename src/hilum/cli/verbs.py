"""The table of verbs: which file serves which."""

from typing import Annotated

import typer

import hilum
from hilum.cli.audit import app as audit
from hilum.cli.backup import backup, restore
from hilum.cli.bundle import app as bundle
from hilum.cli.change import app as change
from hilum.cli.compare_imbalance import compare_imbalance
from hilum.cli.cross_validate import cross_validate
from hilum.cli.data import app as data
from hilum.cli.demo import demo
from hilum.cli.docs import app as docs
from hilum.cli.doctor import doctor
from hilum.cli.explain import explain
from hilum.cli.films import app as films
from hilum.cli.keys import app as keys
from hilum.cli.labels import app as labels
from hilum.cli.lr_find import lr_find
from hilum.cli.models import app as models
from hilum.cli.monitor import app as monitor
from hilum.cli.pacs import app as pacs
from hilum.cli.predict import predict
from hilum.cli.pretrain import pretrain
from hilum.cli.privacy import app as privacy
from hilum.cli.reader_study import app as reader_study
from hilum.cli.results import app as results
from hilum.cli.retrain import app as retrain
from hilum.cli.runs import app as runs
from hilum.cli.serve import serve
from hilum.cli.study import app as study
from hilum.cli.train import evaluate, train
from hilum.cli.users import app as users

app = typer.Typer(
    name="hilum",
    help="CNN studies that measure what they claim, and a chest X-ray classifier taken to the reading room.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="For research and validation; not a medical device. Every verb takes --debug to show where an error arose.",
)


def _version(show: bool) -> None:
    if show:
        print(f"hilum {hilum.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the command itself."""


# One literal table: each verb's file is imported only for its parser; the rooms behind it are not.
app.command()(demo)
app.command()(train)
app.command()(evaluate)
app.command()(cross_validate)
app.command()(compare_imbalance)
app.command()(lr_find)
app.add_typer(runs)
app.command()(pretrain)
app.command()(serve)
app.add_typer(users)
app.add_typer(films)
app.add_typer(audit)
app.add_typer(results)
app.add_typer(pacs)
app.add_typer(monitor)
app.add_typer(change)
app.add_typer(labels)
app.add_typer(retrain)
app.add_typer(reader_study)
app.add_typer(docs)
app.command()(backup)
app.command()(restore)
app.add_typer(study)
app.add_typer(models)
app.add_typer(data)
app.command()(predict)
app.command()(explain)
app.add_typer(bundle)
app.add_typer(keys)
app.add_typer(privacy)
app.command()(doctor)
