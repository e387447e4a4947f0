"""A substitute for an AI application: receive an instance, wait, and return a result that references it.

settings → scp → (bounded queue) → returning: source → picture → result → C-STORE to the edge

It imports no other module of the project: it represents other people's software, which communicates with the
gateway only by DICOM. A C-STORE is answered before the result is computed, because a real AI may need
minutes.

Guaranteed: the result of a source instance by one AE title always has the same UIDs and the same bytes, on
every machine. So a result that is sent twice is a harmless duplicate for the edge (G4).

Not guaranteed: durability. Waiting instances are open files that are already unlinked. If the process dies,
they and their results are lost; after its deadline for the result, the edge sends the instance to another
worker. At most one half-received temporary file remains for each association.
"""
