"""The verbs, one file each. Each has ``configure(parser)`` for its arguments and ``run(args, client)`` for the deed.

``METHODS`` names the control methods it calls (the first one's result is what ``--json`` prints), ``EXAMPLE`` stands in
its help.
"""
