"""What runs on a board: takes a release in, switches to it, and after a cut finds the way back.

Standard library only, Python 3.10 or newer, sent as a zipapp; nothing here imports the rest of
spikewire. Every path lies below a root folder (default /), every change of the disk goes through
`disk`, every other program through `programs`, so that tests can cut either at any call.

    releases/NAME  <- staging/NAME        admit.py     verified, compiled, flushed, then renamed
    state.json     trial = NAME           change.py    written before anything that runs is touched
    units, current -> releases/NAME       change.py
    state.json     NAME is proven         change.py    after it has run; else all of this backwards

Whatever moment the power goes at, state.json names the releases that have proven themselves, and
boot.py puts `current` back to the newest of them that is whole.
"""
