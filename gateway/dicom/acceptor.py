"""The acceptor of associations: C-STORE and C-ECHO, one blocking thread per association.

First stage in the life of an instance: its data set passes from the wire to a `StoreHandler` (see
`dispatch`). Nothing is stored here. If the process dies, the peer got no response and still owns the
instance.

accepted_association.py serves one association to its end; this module lends it limits, TLS and `stop`.
"""

import os
import socket
import ssl
import time
import weakref

from gateway.dicom.accepted_association import AcceptedAssociation, outcome_of
from gateway.dicom.policy import Contexts, Observer, Policy, Timeouts
from gateway.dicom.tls import TlsError, start_tls
from gateway.dicom.wire import ClosedByPeerError, TimedOutError, Wire, WokenError

ANY_CONTEXT = Contexts()
"""Accepts every transfer syntax, and does not report contexts that were not accepted."""
NOBODY = Observer()


class Acceptor:
    """Serves associations on the threads that call `serve`, until `stop`.

    Create it after any fork, in the process that serves: `stop` does not reach other processes. With `tls`,
    an association begins with a handshake, which must end within ARTIM.
    """

    def __init__(
        self,
        policy: Policy,
        max_pdu_bytes: int,
        timeouts: Timeouts,
        *,
        tls: ssl.SSLContext | None = None,
        contexts: Contexts = ANY_CONTEXT,
        observer: Observer = NOBODY,
    ) -> None:
        self._policy = policy
        self._negotiated = contexts
        self._observer = observer
        self._tls = tls
        self._max_pdu_bytes = max_pdu_bytes
        self._timeouts = timeouts
        # `stop` closes the write end. Then the poll of each waiting association reports a hang-up.
        self._waker, write_end = os.pipe()
        weakref.finalize(self, os.close, self._waker)
        self._stop = weakref.finalize(self, os.close, write_end)

    def change(self, max_pdu_bytes: int, timeouts: Timeouts, contexts: Contexts) -> None:
        """Use other limits for the next associations; those that are open keep theirs."""
        self._max_pdu_bytes, self._timeouts, self._negotiated = max_pdu_bytes, timeouts, contexts

    def stop(self) -> None:
        """End every waiting association now, and every other after the message that it is receiving.

        Do not wait for them: `serve` returns on its threads.
        """
        self._stop()

    def serve(self, sock: socket.socket, address: tuple[str, int] | tuple[str, int, int, int]) -> None:
        """Run one association from its first byte to its end, and close the socket.

        Errors of the peer are reported to the policy and not raised. An exception of the policy aborts the
        association, and is raised here if it is not `AbortAssociation`.
        """
        try:
            wire = self._wire(sock)
        except (TimedOutError, WokenError, ClosedByPeerError) as end:
            sock.close()
            if isinstance(end, TlsError | TimedOutError):
                self._observer.broken(None, address[0], end)
            self._policy.ended_unadmitted(address[0], outcome_of(end), str(end))
            return
        try:
            AcceptedAssociation(
                self._policy,
                self._max_pdu_bytes,
                self._timeouts,
                wire,
                address,
                contexts=self._negotiated,
                observer=self._observer,
            ).run()
        finally:
            wire.close()

    def _wire(self, sock: socket.socket) -> Wire:
        silence_seconds = self._timeouts.network_seconds
        if self._tls is None:
            return Wire(sock, silence_seconds=silence_seconds, waker=self._waker)
        return start_tls(
            sock,
            self._tls,
            deadline=time.monotonic() + self._timeouts.artim_seconds,
            silence_seconds=silence_seconds,
            waker=self._waker,
        )
