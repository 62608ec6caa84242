"""Whether all backends on this machine give the same bits."""

from xpnn.verification.compare import (
    Canonical,
    Difference,
    Record,
    Verification,
    as_json,
    canonical_runs,
    generated,
    record,
    run_canonical,
    usable_backends,
    verify,
)

__all__ = [
    "Canonical",
    "Difference",
    "Record",
    "Verification",
    "as_json",
    "canonical_runs",
    "generated",
    "record",
    "run_canonical",
    "usable_backends",
    "verify",
]
