"""Stock pynetdicom as a Storage SCP for the benchmarks: `python wire_pynetdicom.py PORT`.

It keeps nothing.
"""

import sys

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt

entity = AE(ae_title="STOCK")
entity.maximum_pdu_size = 131_072
for context in AllStoragePresentationContexts:
    entity.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
entity.start_server(
    ("127.0.0.1", int(sys.argv[1])), block=True, evt_handlers=[(evt.EVT_C_STORE, lambda _: 0x0000)]
)
