"""Statuses as diagnostic_msgs. Knows messages; knows no node."""

from __future__ import annotations

from collections.abc import Sequence

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from egowm_nodes.conversions import header
from egowm_nodes.runtime.diagnostics import Status


def diagnostics_message(statuses: Sequence[Status], *, node: str, hardware_id: str, stamp_ns: int) -> DiagnosticArray:
    """Statuses of one node, named ``NODE: STATUS``."""
    message = DiagnosticArray(header=header(stamp_ns, ""))
    for status in statuses:
        values = [KeyValue(key=key, value=value) for key, value in status.values.items()]
        message.status.append(
            DiagnosticStatus(
                level=bytes([int(status.level)]),
                name=f"{node}: {status.name}",
                message=status.message,
                hardware_id=hardware_id,
                values=values,
            )
        )
    return message
