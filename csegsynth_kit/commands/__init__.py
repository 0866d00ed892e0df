"""What the ``csegsynth`` commands do: parsed options in, files and a few printed lines out.

One module each, with a function ``run``, so that none waits for what another needs.
"""
