"""meshctl: the command line of meshd.

A client of the control socket with nothing but the standard library and two small modules of ``meshd.control``, so that
it starts quickly. ``__main__`` finds the verb, ``verbs/`` holds one file for each, loaded alone; ``table`` lists them.
``client`` speaks to the daemon, ``streaming`` copies between a stream and the standard ones, ``arguments`` reads the
command line, ``render`` writes for people, ``durations`` reads and writes lengths of time, ``completion`` makes the
shells' completion from the table.
"""
