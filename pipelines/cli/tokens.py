"""``gearshift token``: access tokens of the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from foundation.path_roles import KEPT_FILE
from pipelines.cli.console import Json, argument, group, notes, option, show

token = group("Access tokens of the gateway.")


@token.command("add")
def token_add(
    name: Annotated[str, argument(help="Whose token it is; stands in the log.")],
    role: Annotated[
        list[str],
        option(help="stream, feedback, operate, watch, events, sync or experiment; repeatable."),
    ],
    tokens: Annotated[Path, option(help="File of the tokens."), KEPT_FILE] = Path("tokens.jsonl"),
    as_json: Json = False,
) -> None:
    """Make an access token; its digest is kept in the file, the token is shown this once.

    Earlier tokens of the same name stay valid, so that a client can change to the new one.

    Example: `gearshift token add robot-7 --role stream --role feedback`
    """
    from foundation.audit_log import audit_of_environment
    from inference_graph.gateway.access import add_token, count_tokens

    earlier = count_tokens(tokens, name)
    made = add_token(tokens, name, role, audit_of_environment())
    if as_json:
        show({"name": name, "roles": role, "token": made, "earlier": earlier}, as_json)
        return
    print(made)
    notes.print(
        "This token is shown only now. Clients send it as 'Authorization: Bearer TOKEN'; "
        f"gearshift stream takes it from $GEARSHIFT_TOKEN. {tokens} holds its digest.",
        markup=False,
    )
    if earlier:
        notes.print(
            f"Earlier tokens of {name} stay valid: {earlier}; gearshift token remove {name} "
            "takes all of them away.",
            markup=False,
        )


@token.command("remove")
def token_remove(
    name: Annotated[str, argument(help="Whose tokens are taken away.")],
    tokens: Annotated[Path, option(help="File of the tokens."), KEPT_FILE] = Path("tokens.jsonl"),
    as_json: Json = False,
) -> None:
    """Take all tokens of a name out of the file; a running gateway follows within a second.

    Example: `gearshift token remove robot-7`
    """
    from foundation.audit_log import audit_of_environment
    from inference_graph.gateway.access import remove_tokens

    removed = remove_tokens(tokens, name, audit_of_environment())
    if as_json:
        show({"name": name, "removed": removed}, as_json)
    else:
        notes.print(f"{removed} removed", markup=False)
