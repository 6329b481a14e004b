"""Certificates: imported, used by listeners, deleted when none does. Source: ACM API, ImportCertificate."""

from __future__ import annotations

from minicloud.balancer import errors, limits, pem
from minicloud.balancer.commands import DeleteCertificate, ImportCertificate
from minicloud.balancer.model import Certificate
from minicloud.balancer.state import Draft, State
from minicloud.balancer.tagging import checked_tags
from minicloud.base.machine import Context, Outcome


def create(state: State, command: ImportCertificate, context: Context) -> Outcome:
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
    made = Certificate(
        arn=command.scope.arn("acm", f"certificate/{'-'.join(parts)}"),
        account=command.scope.account,
        region=command.scope.region,
        certificate=pair.certificate,
        private_key=pair.private_key,
        chain=pair.chain,
        names=pair.names,
        expires=pair.expires,
        created=context.now,
        tags=checked_tags(command.tags),
    )
    draft = Draft(state)
    draft.put(made)
    return draft.outcome(made)


def delete(state: State, command: DeleteCertificate, _context: Context) -> Outcome:
    certificate = state.certificates.get(command.arn)
    if certificate is None or certificate.scope != command.scope:
        raise errors.no_certificate(command.arn)
    if state.listeners_with(certificate.arn):
        raise errors.in_use("Certificate", certificate.arn, "a listener")
    draft = Draft(state)
    draft.drop(certificate)
    return draft.outcome()
