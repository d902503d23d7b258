"""Who may push to us and to whom we may push: channels, grants, capabilities, and when a push is worth its price."""
