"""`mini-pacs inject-fault`, `faults`, `clear-faults`: inject faults, list them, and end them."""

from dataclasses import asdict
from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated, NoReturn

import typer

from cli.documents import Json, Schema, print_document
from cli.operator import configured, opened, operator
from cli.screen import console, table
from gateway.database.tables import faults as store
from gateway.faults import EFFECTS, Active, Name
from gateway.log import Stage
from gateway.operate import faults as use_cases
from gateway.times import clock, dated, duration_of


def inject_fault(
    name: Annotated[
        str, typer.Argument(help="The fault; `mini-pacs faults` lists them.", show_default=False)
    ],
    amount: Annotated[
        float | None, typer.Argument(metavar="[VALUE]", help="The same as --value.", show_default=False)
    ] = None,
    *,
    value: Annotated[
        float | None, typer.Option(help="The value, for a fault that takes one.", show_default=False)
    ] = None,
    stage: Annotated[
        Stage | None,
        typer.Option(
            help="Inject it at this stage only; without this option at all its stages.", show_default=False
        ),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="TIME",
            help="How long: 90s, 5m, 1h30m; without this option until it is cleared.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Inject a fault, to see how the edge handles it.

    Every process applies it within a second. Injecting a fault again replaces its value and time.
    """
    fault = _fault(name, amount if value is None else value, stage)
    if amount is not None and value is not None:
        raise typer.BadParameter("give the value once")
    lasting = None if duration is None else _time(duration)
    configured()
    with opened("faults", changes=True) as database:
        use_cases.inject(database, fault, lasting=lasting, operator=operator())
    if as_json:
        told = {"name": fault.name, "value": fault.value, "stage": fault.stage, "for_seconds": lasting}
        print_document(Schema.FAULT, told)
        return
    until = "until `mini-pacs clear-faults`" if lasting is None else f"for {duration}"
    shown = "" if fault.value is None else f" {fault.value:g}"
    typer.echo(f"{fault.name}{shown}: {EFFECTS[fault.name].text}, within a second, {until}.")


def faults(as_json: Json = False) -> None:
    """Show the active faults, and all faults that can be injected."""
    with opened("faults") as database, database.statement() as session:
        active = store.injected(session)
    if as_json:
        effects = {name.value: asdict(effect) for name, effect in EFFECTS.items()}
        print_document(Schema.FAULTS, {"active": active, "known": effects})
        return
    screen = console()
    rows = table("fault", "value", "stage", "until", "injected", "by", title=dated("Active faults"))
    for one in active:
        value = "" if one.value is None else f"{one.value:g}"
        until = clock(one.until) or "cleared"
        rows.add_row(one.name, value, one.stage or "all", until, clock(one.injected_at), one.injected_by)
    screen.print(rows if active else "No fault is active.")
    screen.print(_known())


def clear_faults(
    name: Annotated[
        str | None, typer.Argument(help="The fault; without a name all of them.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """End one injected fault, or all of them.

    Every process stops applying it within a second.
    """
    known = None if name is None else _name(name)
    configured()
    with opened("faults", changes=True) as database:
        cleared = use_cases.clear(database, known, operator())
    if as_json:
        print_document(Schema.CLEARED_FAULTS, {"cleared": cleared})
    else:
        typer.echo(f"Cleared: {', '.join(cleared)}." if cleared else "No fault was active.")


def _fault(name: str, value: float | None, stage: Stage | None) -> Active:
    try:
        return use_cases.fault_of(_name(name), value, stage)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _name(name: str) -> Name:
    try:
        return Name(name)
    except ValueError:
        _unknown(name)


def _unknown(name: str) -> NoReturn:
    near = get_close_matches(name, [one.value for one in Name], n=1)
    meant = f"; did you mean {near[0]}?" if near else "."
    known = "\n".join(f"  {one.value}: {effect.text}" for one, effect in EFFECTS.items())
    raise typer.BadParameter(f"there is no fault {name}{meant} The faults are:\n{known}")


def _known() -> object:
    rows = table("fault", "value", "stages", "effect", title="\nAll faults")
    for name, effect in EFFECTS.items():
        value = "" if effect.maximum is None else f"{effect.default:g}, at most {effect.maximum:g}"
        rows.add_row(name.value, value, ", ".join(effect.stages), effect.text)
    return rows


def _time(text: str) -> timedelta:
    try:
        return duration_of(text, use_cases.LONGEST_FAULT)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--for") from error
