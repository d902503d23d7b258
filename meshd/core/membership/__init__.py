"""Who belongs to the mesh: certificates, records, revocations, our own place in it and our keys."""
