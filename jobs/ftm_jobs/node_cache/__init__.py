"""A folder that outlives pods and that the pods of a node share: artifacts, and what engines compiled.

    artifacts/NAME/      the files of an artifact or a base, each proven by its sha256
    compiled/NAME/       what an engine compiled
    records/KIND-NAME    the bytes that are kept free for it; its time is when it was last used
    in-use/KIND-NAME/    a lease for each pod that uses it
    locks/               held by whoever fills, proves or removes an entry, or makes room

An entry is removed by whoever holds its lock while no lease of it lives. A pod has its lease before it lets go of the
lock, so nothing that a pod uses is removed.
"""
