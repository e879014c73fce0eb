"""How large a network is and how fast it runs."""
