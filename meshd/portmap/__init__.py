"""Port mapping: asks this machine's own router to let UDP in, so that peers find a node behind a home's NAT.

Pure: ``pcp``, ``nat_pmp`` and ``igd`` (with ``plain_xml``) are the three protocols as texts and bytes; ``routes`` reads
the kernel's routing tables; ``machine`` decides what is asked when, and what of the answers may be advertised.
I/O under trio: ``pcp_client``, ``nat_pmp_client`` and ``igd_client`` carry out one question each, over ``exchange``;
``port_mapper`` runs it all and is what the daemon knows.
"""
