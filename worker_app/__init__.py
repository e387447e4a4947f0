"""A substitute for an AI application: receive an instance, wait, and return a result that references it.

    settings → scp → (bounded queue) → returning: source → picture → result → C-STORE to the edge
                 └─ collecting: a series ─┘

By default each instance gets its own result. With WORKER_UNIT=series a whole series gets one result series:
as many slices, in the same order and place. With WORKER_OUTPUT it is a segmentation or a report by
highdicom.

It imports no other module of the project: it represents other people's software, which communicates with the
gateway only by DICOM. A C-STORE is answered before the result is computed, because a real AI may need
minutes.

Guaranteed: the result of a source instance by one AE title always has the same UIDs and the same bytes, on
every machine. So a result that is sent twice is a harmless duplicate for the edge (G4).

Not guaranteed: durability. Waiting instances are open files that are already unlinked, or files of a
temporary folder. If the process dies, they and their results are lost; after its deadline for the result,
the edge sends the instance to another worker. Files of half-received instances and of unfinished series
remain.
"""
