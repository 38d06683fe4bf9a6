"""What runs on the board: source -> window -> engine -> decide -> drive -> guard -> link."""
