"""From a debt to a settled one: claim, C-STORE, settle.

attempt        one try of one delivery, and what its outcome does to delivery and peer
associations   the associations to the peers that are kept open while there is work
source         the bytes of an instance, as they were received
probe          asks a peer whose breaker is open whether it is back
"""
