"""Certificates: imported, used by listeners, deleted when none does. Source: ACM API, ImportCertificate.

Records hold keys sealed; HAProxy's own files hold them as it reads them.
"""

from __future__ import annotations

from minicloud.balancer import errors, limits, pem
from minicloud.balancer.commands import DeleteCertificate, ImportCertificate
from minicloud.balancer.model import Certificate
from minicloud.balancer.ports import Seal
from minicloud.balancer.state import State
from minicloud.balancer.tagging import checked_tags
from minicloud.base.machine import Context, Draft, Outcome

NONCE_BYTES = 12
_PLAIN = "-----BEGIN"


def create(seal: Seal, state: State, command: ImportCertificate, context: Context) -> Outcome:
    """The reply is the Certificate."""
    for field, text, most in (
        ("certificate", command.certificate, limits.PEM_CHARS_MAX),
        ("private_key", command.private_key, limits.PEM_CHARS_MAX),
        ("chain", command.chain, limits.CHAIN_CHARS_MAX),
    ):
        if len(text) > most or not text.isascii():
            raise errors.invalid(f"The {field} must have at most {most} ASCII characters", field)
    pair = pem.read(command.certificate, command.private_key, command.chain, context.now)
    number = context.hex(32)
    parts = (number[:8], number[8:12], number[12:16], number[16:20], number[20:])
    arn = command.scope.arn("acm", f"certificate/{'-'.join(parts)}")
    made = Certificate(
        arn=arn,
        account=command.scope.account,
        region=command.scope.region,
        certificate=pair.certificate,
        private_key=seal.seal(pair.private_key.encode(), context.rand.randbytes(NONCE_BYTES), arn),
        chain=pair.chain,
        names=pair.names,
        expires=pair.expires,
        created=context.now,
        tags=checked_tags(command.tags),
    )
    draft = Draft(state)
    draft.put(made)
    return draft.outcome(made)


def key_of(seal: Seal, one: Certificate) -> str:
    """As HAProxy reads it. In a record from before keys were sealed it stands as it is. Raises ValueError."""
    if one.private_key.startswith(_PLAIN):
        return one.private_key
    return seal.open(one.private_key, one.arn).decode()


def delete(state: State, command: DeleteCertificate, _context: Context) -> Outcome:
    certificate = state.certificates.get(command.arn)
    if certificate is None or certificate.scope != command.scope:
        raise errors.no_certificate(command.arn)
    if state.listeners_with(certificate.arn):
        raise errors.in_use("Certificate", certificate.arn, "a listener")
    draft = Draft(state)
    draft.drop(certificate)
    return draft.outcome()
