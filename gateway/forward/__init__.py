"""Forward instances: claim a delivery, send it by C-STORE, settle it.

deliver             the entry points of the actors: one delivery to the PACS, or to a worker
turns               which instance may be sent to the PACS now
attempt             one attempt: send, settle, move the file, log
send_result         DIMSE statuses and errors as outcomes
settle              record the outcome in the delivery and in the circuit breaker of the peer
renewal             keep the claim while bytes are sent
source              the data set of an instance, as it was received
associations        associations that are kept open and lent to threads (peer_associations: those of one peer)
opening             open an association, and find out why a peer refuses one
proposed_contexts   presentation contexts to propose beside the one that is needed
peer                the network address of a destination
probe               ask a peer whose circuit breaker is open whether it is back
context             the objects that all of these use
"""
