"""meshd: a mesh for your machines with no server of your own.

The rooms, lower ones first; a lower room never imports a higher one (``tests/test_layers.py`` holds this):

``ids errors config`` · ``crypto`` · ``wire`` · ``core`` · ``control`` ``sim`` ``links`` ``push`` · ``daemon``

``core`` decides everything and does nothing: events and the time go in, commands come out. The other rooms do.
"""

VERSION = "0.1.0"
