"""Training several configs over several seeds, and comparing what came out."""
