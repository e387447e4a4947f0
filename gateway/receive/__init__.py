"""From an association to a committed reception: the only door through which instances come.

policy    who may associate, and what they may send
limits    how many associations are open, over all receiver processes
store     one C-STORE: stream to the spool, then a status; the only place an error becomes a status
commit    the transaction that makes us responsible
group     one transaction for what is ready together
server    one parent that binds the port, and the receivers that accept on it
"""
