"""What a sweep may leave behind that costs money, by provider."""
