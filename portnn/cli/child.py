"""What ``multiprocessing`` runs as the main module of a process that a script under ``portnn run`` starts afresh."""

from portnn.cli.children import again

if __name__ == "__mp_main__":  # as Python calls it there
    again(globals())
