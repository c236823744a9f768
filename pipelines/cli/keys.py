"""``gearshift key`` and ``gearshift sign``: who may release models, and proof that they did."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from foundation.path_roles import KEPT_FILE, KEPT_FOLDER, READ
from pipelines.cli.console import Json, argument, group, notes, option, show

key = group("Keys that sign models: make them, trust them, revoke them.")

Trust = Annotated[Path, option(help="The trust file."), KEPT_FILE]
Files = Annotated[list[Path], argument(help="Policies, rungs, or any other files."), READ]
_TRUST = Path("trust.json")


@key.command()
def new(
    name: Annotated[str, argument(help="Name of the key, for example release-2026.")],
    out: Annotated[Path, option("--out", help="Folder of the two new files."), KEPT_FOLDER] = Path(
        "."
    ),
    as_json: Json = False,
) -> None:
    """Make a key pair: NAME.key, which is a secret, and NAME.pub, which is not.

    NAME.key is encrypted with $GEARSHIFT_KEY_PASSWORD if that is set, readable by its owner only,
    and belongs where models are released, never where they are served.

    Example: `gearshift key new release-2026 --out keys`
    """
    from foundation.audit_log import audit_of_environment, operator
    from foundation.signing.keys import new_key, read_public_key

    private, public = new_key(name, out)
    key_id = read_public_key(public).key_id
    audit_of_environment().record(operator(), "key.new", name, {"key_id": key_id})
    show({"private": private, "public": public, "key_id": key_id}, as_json)


@key.command("trust")
def trust_(
    public_key: Annotated[Path, argument(help="NAME.pub of the key."), READ],
    trust: Trust = _TRUST,
    name: Annotated[str, option(help="Name of the key; the file's without it.")] = "",
    as_json: Json = False,
) -> None:
    """Have a key's signatures count, beside those of the keys that are trusted already.

    Services read the file again for every model they load, so it can be replaced under them.

    Example: `gearshift key trust keys/release-2026.pub --trust trust.json`
    """
    from foundation.audit_log import audit_of_environment
    from foundation.signing.trust import trust_key

    added = trust_key(trust, public_key, name, audit_of_environment())
    if as_json:
        show({"trust": trust, "name": added.name, "key_id": added.key.key_id}, as_json)
    else:
        notes.print(f"{trust} trusts {added.name} ({added.key.key_id[:12]})", markup=False)


@key.command()
def revoke(
    name: Annotated[str, argument(help="Name of the key in the trust file.")],
    reason: Annotated[str, option(help="Why; whoever is refused will read it.")] = "",
    trust: Trust = _TRUST,
    as_json: Json = False,
) -> None:
    """Have a key's signatures count no longer; sign what is still good with another key first.

    What is loaded already stays loaded: swap the policy, or restart the services.

    Example: `gearshift key revoke release-2025 --reason "the laptop was lost"`
    """
    from foundation.audit_log import audit_of_environment
    from foundation.signing.trust import revoke_key

    gone = revoke_key(trust, name, reason, audit_of_environment())
    if as_json:
        show({"trust": trust, **gone.line()}, as_json)
    else:
        notes.print(f"{trust} trusts {gone.name} no longer", markup=False)


@key.command("list")
def list_(trust: Trust = _TRUST, as_json: Json = False) -> None:
    """Show which keys are trusted, and which were revoked, when and why.

    Example: `gearshift key list --trust trust.json`
    """
    from foundation.signing.trust import read_trust

    known = read_trust(trust)
    if as_json:
        show({"keys": [one.line() | {"key_id": one.key.key_id} for one in known.keys]}, as_json)
        return
    for one in known.keys:
        state = "trusted"
        if one.revoked is not None:
            state = f"revoked on {one.revoked:%Y-%m-%d}: {one.reason}"
        print(f"{one.name} ({one.key.key_id[:12]}): {state}")


@key.command()
def check(files: Files, trust: Trust = _TRUST, as_json: Json = False) -> None:
    """Check files against their signatures, as a service does that loads them.

    Example: `gearshift key check policy.onnx ladder/*.onnx --trust trust.json`
    """
    from foundation.signing.trust import check_signed
    from foundation.storage import sha256_file

    signers = {str(file): check_signed(trust, file, sha256_file(file)).name for file in files}
    show({"signed_by": signers}, as_json)


def sign(
    files: Files,
    private_key: Annotated[
        Path, option("--key", envvar="GEARSHIFT_KEY", help="NAME.key of the key that signs."), READ
    ],
    as_json: Json = False,
) -> None:
    """Sign policies and rungs: FILE.sig appears beside each, and travels with it.

    A router, a detector and a gateway with a trust file (`--trust`, $GEARSHIFT_TRUST) load only
    what a trusted key signed. The signature is in the OpenSSF's Model Signing format.

    Example: `gearshift sign runs/demo/policy.onnx ladder/*.onnx --key keys/release-2026.key`
    """
    from foundation.audit_log import audit_of_environment, operator
    from foundation.signing.keys import read_private_key
    from foundation.signing.signature import sign_file
    from foundation.storage import sha256_file

    with_key = read_private_key(private_key)
    audit, signed = audit_of_environment(), []
    for file in files:
        figures = {"sha256": sha256_file(file), "key_id": with_key.public.key_id}
        audit.record(operator(), "model.sign", file.name, figures)
        signed.append(sign_file(file, with_key))
    show({"signed": signed}, as_json)
