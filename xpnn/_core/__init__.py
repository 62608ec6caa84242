"""What stands on nothing of xpnn but its errors."""
