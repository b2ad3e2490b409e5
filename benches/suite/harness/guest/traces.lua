-- Many small functions, each hot enough for LuaJIT to compile and cold soon after: `traces.lua FUNCTIONS`.
local sum = 0
for number = 1, tonumber(arg[1]) do
  local source = "return function(x) local s = 0 for i = 1, 150 do s = (s * " .. (number % 31 + 2)
    .. " + i + x) % " .. (number + 1000003) .. " end return s end"
  sum = (sum + load(source)()(sum)) % 1000000007
end
print(sum)
