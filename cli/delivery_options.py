"""The options by which the commands of `mini-pacs deliveries` select deliveries."""

from typing import Annotated

import typer

from cli.pages import LARGEST_ID
from gateway.database.tables.selected_deliveries import Selection
from gateway.domain.delivery import State
from gateway.domain.identifiers import MAX_DATA_SET_UID_LENGTH, is_uid
from gateway.domain.routing import Route

DeliveryId = Annotated[
    int | None,
    typer.Option("--delivery", metavar="ID", max=LARGEST_ID, help="Select one delivery.", show_default=False),
]
Study = Annotated[
    str | None, typer.Option(metavar="UID", help="Select the deliveries of a study.", show_default=False)
]
InState = Annotated[State | None, typer.Option(help="Select the deliveries in a state.", show_default=False)]
OnRoute = Annotated[
    Route | None,
    typer.Option(
        help="Select the deliveries to the PACS, to the other archives, or to the workers.",
        show_default=False,
    ),
]
ToTarget = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="NAME",
        help="Select the deliveries to one archive, by its AE title, or to one application, by its name.",
        show_default=False,
    ),
]
Every = Annotated[bool, typer.Option("--all", help="Select every delivery.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def selection_of(
    delivery: int | None, study: str | None, state: State | None, route: Route | None, target: str | None
) -> Selection:
    """Return what the options select; all deliveries without any.

    Raises:
        BadParameter: the UID of a study is none.
    """
    if study is not None and not is_uid(study, MAX_DATA_SET_UID_LENGTH):
        raise typer.BadParameter(
            f"a UID has at most {MAX_DATA_SET_UID_LENGTH} characters, digits and dots", param_hint="--study"
        )
    return Selection(delivery, study, state, route, target)


def chosen(
    delivery: int | None,
    study: str | None,
    state: State | None,
    route: Route | None,
    target: str | None,
    *,
    every: bool,
) -> Selection:
    """Return what the options of a change select: --all or a selection, not both.

    Raises:
        BadParameter: neither or both were given, or as `selection_of`.
    """
    selection = selection_of(delivery, study, state, route, target)
    if (selection == Selection()) != every:
        raise typer.BadParameter(
            "select by --delivery, --study, --state, --route or --target; or give --all, alone"
        )
    return selection
