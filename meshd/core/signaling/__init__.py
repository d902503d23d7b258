"""From the wish for a link to the link: offers, answers, sessions, and a new path for a link that lost its own."""
